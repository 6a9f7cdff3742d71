"""The page: what the daemon shows in a browser, on the loopback address of its API.

`site.py` has the table of views, and `CONTRIBUTING.md` the steps to add one. Needs jinja2 (`pip install
'harvestd[page]'`); nothing else of harvestd imports this package before the daemon serves it.
"""
