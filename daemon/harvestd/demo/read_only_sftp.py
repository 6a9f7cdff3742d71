"""An SFTP server that serves files and refuses every change, for demo hosts that offer SFTP alone."""

from typing import NoReturn

import asyncssh

_CHANGES = asyncssh.FXF_WRITE | asyncssh.FXF_APPEND | asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC | asyncssh.FXF_EXCL


def _refuse(*_args: object, **_kwargs: object) -> NoReturn:
    raise asyncssh.SFTPPermissionDenied("this box is read-only")


class ReadOnlySFTPServer(asyncssh.SFTPServer):
    """asyncssh's server of the local file system, with protocol version 3 and without operations that change files."""

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        """Open `path` for reading; raise SFTPPermissionDenied for any other mode."""
        if pflags & _CHANGES:
            _refuse()
        return super().open(path, pflags, attrs)

    open56 = _refuse
    write = _refuse
    setstat = _refuse
    lsetstat = _refuse
    fsetstat = _refuse
    remove = _refuse
    mkdir = _refuse
    rmdir = _refuse
    rename = _refuse
    posix_rename = _refuse
    symlink = _refuse
    link = _refuse
