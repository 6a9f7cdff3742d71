"""A README as HTML: what harvestd writes is rendered, everything else is text."""

import re

import pytest

from harvestd.page.experiments.markdown import rendered

NAME = "gns_test_2025-08-20_qwen2_5_1_5b_h100_64steps"
README = f"""Notes with **weight**

<!-- harvestd begins: facts 0a, pictures 0b -->
# `{NAME}`

Written by harvestd.

|  |  |  |
| --- | --: | --- |
| run | `a\\|b` | finished |

## Results

| | step | n |
| --- | --- | --- |
| base | 0 | 60 |

![loss of it](analysis/loss.png)

```sh
python analysis/a.py <b>
```

- one
- two
<!-- harvestd ends -->
"""


def html(text: str) -> str:
    """Render a README with one known picture."""
    return rendered(text, NAME, ("loss.png",), "/pictures/{}".format)


def test_what_harvestd_writes_is_rendered() -> None:
    """Headings below the view's own, tables without empty heads, code, lists and pictures; no style of any kind."""
    found = html(README)
    assert "harvestd begins" not in found
    assert "harvestd ends" not in found
    assert NAME not in found
    assert "<strong>weight</strong>" in found
    assert "<h3>Results</h3>" in found
    assert found.count("<table") == 2
    assert found.count("<thead>") == 1
    assert "<code>a|b</code>" in found
    assert '<img class="picture" src="/pictures/loss.png" alt="loss of it" loading="lazy">' in found
    assert "python analysis/a.py &lt;b&gt;" in found
    assert "<li>one</li>" in found
    assert "style=" not in found


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        "<https://example.com>",
        "![x](https://example.com/x.png)",
        "![x](analysis/../../secret.png)",
        "![x](analysis/other.png)",
        '![" onload="alert(1)](analysis/other.png)',
        "a `<b>` \u202e \x1b[31m",
        "[x]: javascript:alert(1)\n\n[x]",
        "| <i>a</i> |\n| --- |\n| <script> |",
        "    <script>alert(1)</script>",
        "# <svg onload=alert(1)>",
        "> " * 500 + "deep",
    ],
)
def test_everything_else_is_text(text: str) -> None:
    """No element, attribute or address comes from the text."""
    found = html(text)
    tags = set(re.findall(r"<(\w+)", found))
    assert tags <= {
        "p",
        "code",
        "pre",
        "ul",
        "li",
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "h2",
        "blockquote",
    }
    assert not re.search(r"<[^>]*\b(?:href|src|on\w+)=", found)
    assert "\u202e" not in found
    assert "\x1b" not in found
