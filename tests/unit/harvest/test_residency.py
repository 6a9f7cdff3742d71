"""How long the records of a quiet host's files stay in memory."""

from harvestd.catalogue.loading import KEPT
from harvestd.harvest.host.observer import Residency


def test_records_that_are_needed_again_and_again_stay_longer_each_time() -> None:
    """Dropped at once at first; then they stay for 20 s, 40 s …, at most for `KEPT`; a long absence begins anew."""
    residency, now, stays = Residency(), 0.0, []
    assert residency.has_ended(now, is_loaded=True)
    assert not residency.has_ended(now, is_loaded=False)
    for _ in range(8):
        residency.dropped(now)
        loaded = now = now + 1
        while not residency.has_ended(now, is_loaded=True):
            now += 1
        stays.append(now - loaded)
    assert stays[:4] == [0, 20, 40, 80]
    assert stays[-1] == KEPT
    residency.dropped(now)
    assert residency.has_ended(now + KEPT + 1, is_loaded=True)
