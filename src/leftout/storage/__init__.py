"""Results on disk: scores, tables, records of what made them."""

from typing import TYPE_CHECKING

from leftout.core.exports import exports

if TYPE_CHECKING:
    from leftout.core.json_file import read_json as read_json
    from leftout.storage.provenance import environment as environment
    from leftout.storage.provenance import recover_records as recover_records
    from leftout.storage.provenance import save_record as save_record
else:
    __all__, __getattr__, __dir__ = exports(__spec__)
