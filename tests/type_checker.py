"""The type checker that tests run the package under: beartype, with whole numbers allowed for floats.

It has a file because jaxtyping's option takes several packages only where the checker is a plain name.
"""

import beartype

checked = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
