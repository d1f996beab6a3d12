"""The report of a run as a page: `page.write_report` turns sections into report.html and report.md.

What stands in a section is decided by the parts (registry/reports) and by frame.py; how it looks, here.
"""
