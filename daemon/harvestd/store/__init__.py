"""The data root: the only code of harvestd that opens a path below it.

Contract:
- A file at its final path is whole and synced before `publish` says so; a crash at any moment leaves the old or the
  new content there, and running the same work again converges.
- Nothing that harvestd did not file itself is overwritten, cut or deleted: what a person put there is a `Conflict`.
- Every path is walked one component at a time with directory descriptors that follow no link, so a link planted inside
  the data root never leads a write out of it. Names arrive only as `LocalPath`.
- Trouble of the local disk is `HaltedForSafety` (`DiskFull` where room is missing), never a half-written result.

Everything here blocks. Callers on the event loop run it in worker threads; a `DataRoot` may be shared by threads, a
`Staged` or a `GrowingFile` belongs to one thread at a time. It must never speak to a box, to the catalogue or to the
network, and never run without the caller holding the `DataRootLock` where it writes.
"""
