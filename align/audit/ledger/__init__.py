"""The ledger: what was made from what, in a file that can't be changed unnoticed.

``ledger.jsonl`` holds one record a line, and every record holds the hash of the one before it. Changing, removing or moving a
record breaks the chain; changing a file breaks the record that names it. Nothing inside a file can tell that its end was cut
off: for that, keep the hash of the last record (the *head*) somewhere else, and hand it to ``verify``.

    records    one record and its line
    chain      a whole file of them, and where it is broken
    book       appending, safe with several processes
    files      files and folders that records name
    verify     chain and files together
    lineage    from sources to what was made of them
"""

from align.audit.ledger.book import Ledger
from align.audit.ledger.chain import Chain, read_chain
from align.audit.ledger.files import Artefact
from align.audit.ledger.lineage import Lineage
from align.audit.ledger.records import GENESIS, Record
from align.audit.ledger.verify import Verification, verify_ledger

__all__ = ["GENESIS", "Artefact", "Chain", "Ledger", "Lineage", "Record", "Verification", "read_chain", "verify_ledger"]
