"""A trained network that answers over HTTP: a page for people, JSON for programs, numbers for whoever watches it.

    request -> doors.py (may it?) -> gate.py (is there room?) -> intake.py (which pictures?) -> batching.py -> served.py

bombs.py refuses what costs more than it says.

server.py begins and ends it, app.py says what is where, counting.py counts, page.py has the page. Needs the extra
`serve` (Starlette, uvicorn); extra.py alone can be imported without it.
"""
