"""Writing files and folders: whole or not at all, one writer at a time, checked before the work. Standard library only.

Whatever is unfinished lies in the folder it is for, under a name that cannot be guessed, and is locked while its
writer lives. What a killed writer left is removed by the next check or build there, if it is of the same user.
"""

from flagdit.files.check import check_apart, check_file
from flagdit.files.errors import FlagditError, OutputError
from flagdit.files.file import write_all, write_file
from flagdit.files.folder import check_folder, whole_folder
from flagdit.files.lock import locked
from flagdit.files.part import sweep

__all__ = [
    "FlagditError",
    "OutputError",
    "check_apart",
    "check_file",
    "check_folder",
    "locked",
    "sweep",
    "whole_folder",
    "write_all",
    "write_file",
]
