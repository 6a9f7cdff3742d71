"""The program that runs on the box: looks at trees, says what is new in them, reads files, and changes nothing.

It is sent over SSH at each connect and never written to the box, so it stands alone: `bootstrap` joins these files, in
the order of `FILES`, into one text that needs the standard library of Python 3.6 and nothing else. No name is defined
in two of them. It never opens anything but directories and regular files, follows a link below a tree for nothing
but to say what is there and how large it is, never writes but to its standard output (and, to wake a thread of its own,
into a pipe), and ends by itself when its input ends or falls silent: stock sshd would keep an orphan for hours.

The protocol: requests come on standard input, each a length (4 bytes, big endian) and JSON, plain or as zlib packs it.
The answer is the marker of the first request, then frames: a length (of all that follows it), a letter, a payload.

    H hello      JSON, once                      W whole    a small file in one: a head (`HEAD`), then its bytes
    S scan part  zlib of JSON: one tree's news   O opened   JSON: id, version, verified
    E scan end   JSON: id 0 where nobody asked   D data     raw bytes of the file opened last
    Q refused    JSON: no answer to a scan       C closed   JSON: id, version, sha256
    F facts      JSON, also of other questions   X failed   JSON: id, reason, vanished
    K keep waiting: the program is at work on    R read end JSON
                 the look "s", the reading "r"   Z packed   zlib of frames, where the link is slower than zlib
                 or the facts "f", and at which
                 place: the letter, then a path

A version is [size, mtime_ns, ctime_ns, inode]. Names are UTF-8 with surrogateescape in both directions.

Each of the three who answer (looks "s", readings "r", facts "f") sends no more than the other side granted it, in the
first request and since, and at most one send beyond that: SSH's own windows do not bound what a slow reader there must
hold. What counts are the frames as they are unpacked, each with its head, but for the heads of D.
"""

FILES = ("wire", "requests", "places", "folders", "notices", "news", "looks", "watching", "readings", "facts", "main")
"""The modules that are sent, in the order in which they are joined."""

LATER = ("sessions", "carriers", "belongings", "checkouts", "links", "circumstances")
"""Those that travel with the question that needs them, after the others: it is asked rarely, and a program that fits a
new connection's first round trip starts sooner."""
