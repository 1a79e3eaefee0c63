"""Files here or behind an address: reading with retries, writing whole or not at all, locks."""

from goalrank.storage.atomic import (
    move_into_place,
    put_in_place,
    remove_folder,
    replace_link,
    surviving_folder,
    try_folder,
    whole_file,
    whole_folder,
    write_json,
    write_text,
)
from goalrank.storage.json_text import json_text, json_values
from goalrank.storage.location import Location
from goalrank.storage.locks import Claim, holding
from goalrank.storage.retry import RETRIES, transient, with_retries
from goalrank.storage.staging import (
    Place,
    address_of,
    check_place,
    local_copy,
    local_draft,
    local_path,
)

__all__ = [
    "RETRIES",
    "Claim",
    "Location",
    "Place",
    "address_of",
    "check_place",
    "holding",
    "json_text",
    "json_values",
    "local_copy",
    "local_draft",
    "local_path",
    "move_into_place",
    "put_in_place",
    "remove_folder",
    "replace_link",
    "surviving_folder",
    "transient",
    "try_folder",
    "whole_file",
    "whole_folder",
    "with_retries",
    "write_json",
    "write_text",
]
