"""The program that runs on the host: scans trees, reports what changed in them, reads files, and changes nothing.

It is sent over SSH at each connect and never written to the host, so it is self-contained: `protocol` joins these
files, in the order of `FILES`, into one text that needs only the standard library of Python 3.6. No name is defined in
two of them. It opens only directories and regular files. It follows a link below a tree only to report what it leads to
and how large that is. It writes only to its standard output (and, to wake a thread of its own, into a pipe). It ends by
itself when its input ends or is silent for too long: stock sshd would keep an orphan for hours.

The protocol: requests arrive on standard input, each a length (4 bytes, big endian) and JSON, plain or packed by zlib.
The answer is the marker of the first request, then frames: a length (of all that follows it), a letter, a payload.

    H hello      JSON, once                      W whole    a small file in one: a head (`HEAD`), then its bytes
    S scan part  zlib of JSON: a tree's changes  O opened   JSON: id, version, verified
    E scan end   JSON: id 0 if not requested     D data     raw bytes of the file opened last
    U unchanged  JSON: a scan of its own that    C closed   JSON: id, version, sha256
                 found nothing new
    Q refused    JSON: no answer to a scan       V verified a file's hash alone: a head (`HEAD`)
    F facts      JSON, also of other requests    X failed   JSON: id, reason, vanished
    K keep waiting: the program works on the     R read end JSON
                 scan "s", the reading "r" or    Z packed   zlib of frames, where the link is slower than zlib
                 the facts "f", and at which
                 place: the letter, then a path

A request for a scan may give an interval "every", in which the program then scans by itself. Such a scan covers what a
requested one does, and ends with E or U. Their "at" is the newest "at" of a message that had arrived when the scan
began: by it, the other side knows on its own clock how old the scan is at most. After a scan of only what the kernel
reported, E has no "at".

A version is [size, mtime_ns, ctime_ns, inode]. Names are UTF-8 with surrogateescape in both directions.

Each of the three channels (scans "s", readings "r", facts "f") sends no more than the other side granted it, in the
first request and since, and at most one send beyond that: SSH's own windows do not bound what a slow reader there must
buffer. The credit counts frames as they are unpacked, each with its head, except for the heads of D.
"""

FILES = ("wire", "requests", "places", "folders", "notices", "scans", "watching", "readings", "facts", "main")
"""The modules that are sent, in the order in which they are joined."""

LATER = ("sessions", "carriers", "belongings", "checkouts", "links", "circumstances")
"""Those that are sent with the request that needs them, after the others.

They are needed rarely, and a program that fits into a new connection's first round trip starts sooner.
"""
