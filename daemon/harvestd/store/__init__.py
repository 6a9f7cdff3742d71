"""The data root: the only package of harvestd that opens paths below it.

Contract:
- A file at its final path is complete and synced before `publish` returns; a crash at any time leaves the old or the
  new content there, and running the same work again gives the same result.
- Nothing that harvestd did not publish itself is overwritten, truncated or deleted: a person's file is a `Conflict`.
- Every path is opened one component at a time with directory descriptors that follow no link, so a link inside the
  data root never redirects a write out of it. Names are accepted only as `LocalPath`.
- Failures of the local disk are `HaltedForSafety` (`DiskFull` if there is no space), never a partial result.

All functions block. Callers on the event loop run them in worker threads; a `DataRoot` may be shared by threads, a
`Staged` or a `GrowingFile` belongs to one thread at a time. This package must never access a host, the catalogue or the
network, and callers that write must hold the `DataRootLock`.
"""
