"""Write docs/papers/NAME.md from the newest records of each publication: nothing there is typed by hand.

python benchmarks/pages.py
"""

from measure import ROOT

from leftout_papers.page import page
from leftout_papers.publications import PUBLICATIONS


def main():
    """Write every page."""
    for publication in PUBLICATIONS:
        kept = sorted((ROOT / "records").glob(f"*-{publication.name}"))
        if not kept:
            print(f"{publication.name}: no records")
            continue
        records = kept[-1]
        target = ROOT / "docs" / "papers" / f"{publication.name}.md"
        target.parent.mkdir(exist_ok=True)
        target.write_text(page(publication, records, prefix=f"../../records/{records.name}/"))
        print(target.relative_to(ROOT))


if __name__ == "__main__":
    main()
