"""Whatever bytes a box sends as its small files: they say something of the right types, or are refused as a value."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from harvestd.convention.metadata.parse import InvalidFacts, parse_config, parse_training_info
from harvestd.convention.scan.completeness import check_content
from support.examples import examples

YAML = """\
backbone: |total_steps: |gns_probe:\n  enabled: |- |[|]|{|}|&a |*a|!!int |!!set |!!timestamp |!x |<<: |? |: |\n|  |1:1:1
|0x|1e9|true|~|"|'|>\n|---\n|...\n|#|\\ud800|2001-01-01|%YAML 1.1\n|é|\t"""
yaml_pieces = st.sampled_from(YAML.split("|"))


@settings(max_examples=examples(400), deadline=None)
@given(raw=st.binary(max_size=200) | st.lists(yaml_pieces, max_size=25).map(lambda pieces: "".join(pieces).encode()))
@example(raw=b"x: " + b":".join([b"1"] * 300) + b".0")
@example(raw=b"backbone: !!int ''")
def test_any_bytes_are_facts_or_refused(raw: bytes) -> None:
    """Whatever a box says its config is, reading it gives facts of the right types or one kind of error."""
    try:
        found = parse_config(raw)
    except InvalidFacts:
        pass
    else:
        for text in (found.backbone, found.eval_backbone, found.dataset):
            assert text is None or text.encode().decode() == text
        assert found.total_steps is None or type(found.total_steps) is int
    for name in ("run_meta.json", "x.safetensors", "x.gz", "metrics.csv"):
        try:
            check_content(name, raw, len(raw))
            parse_training_info(raw)
        except InvalidFacts:
            pass
