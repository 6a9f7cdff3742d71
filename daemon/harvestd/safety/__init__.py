"""Whether a host may be terminated: the inputs of a verdict, its reasons and its losses. Pure: no I/O, no clock."""
