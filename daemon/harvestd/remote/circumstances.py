"""What a box says of itself for a verdict, for those who ask it; the values are the convention's, which judges by them.

See `harvestd.safety.circumstances`.
"""

from harvestd.safety.circumstances import Carrier, CarrierState, Checkout, Circumstances, Outside

__all__ = ["Carrier", "CarrierState", "Checkout", "Circumstances", "Outside"]
