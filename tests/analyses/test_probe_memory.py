import sys

import pytest

from tokenlens.analyses.studies.probe_memory import compute


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc; run it on Linux")
def test_a_probed_or_pruned_prefill_needs_no_more_memory_than_a_plain_one():
    ratios = compute(visual_tokens=1024).set_index("arm").ratio
    assert ratios["probed"] <= 1.05
    assert ratios["pruned"] <= 1.05
    assert ratios["eager maps"] > 1.5, "the control: whole maps must be seen by this measure"
