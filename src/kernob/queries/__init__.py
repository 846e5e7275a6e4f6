"""Every question that pages and API ask of the store, one module for each.

A function takes a `Reader` (see kernob.store.engine), a `Range` and filters, and returns one of
the types of `kernob.queries.model`: what the API sends as JSON and the pages show.
"""
