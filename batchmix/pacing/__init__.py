"""pacing: decides when the next request of a lane may leave. It does no I/O and never waits.

A lane is one model of a run with its own limits. `governor` combines a token bucket for requests, one for tokens
(`bucket`), and a window of requests in flight (`concurrency`). `rate_estimate` measures unknown limits from throttled
requests (HTTP 429 and the like), `limit_search` tries more than was measured, `random_throttles` recognizes throttles
that no limit explains, `overload` recognizes failures that mean "too fast", and `breaker` stops sending during an
outage.
"""
