"""Decides whether a host may be terminated: inputs, reasons and losses of a verdict. Pure: no I/O, no clock."""
