"""What a node shows to people in a browser, and to `p2pfl watch`: everything that ONE node knows.

    feed      remembers what happened, tells those who watch
    view      what is known now, as the JSON of `/v1/view`
    wording   why a model was mixed or not, in one sentence
    curves    accuracy over time, thinned
    rates     bytes and exchanges a second
    watchers  what waits for somebody who watches
    files     the page itself: assets/*
    links     one-time links and sessions of a run with a key
    sessions  the same over HTTP
    scraping  the token with which Prometheus comes to a run with a key
    guard     whose requests are answered, and with which headers
    streams   `/v1/live`: server-sent events
    routes    the other answers
    serving   all of it at a node's port, and at the listener of a run with a key

Rule of the room: reading only. Whatever a browser does, the node neither waits for it nor pays with
memory for it; while nobody watches, next to nothing is done.
"""
