"""Candidate generators: the first stage, which picks a few hundred items of the catalog for each visitor.

A generator is one file. It declares its names, its settings with their tuning ranges and its place in the ranker's
matrix, and implements `protocol.CandidateGenerator`; `registry` finds it by itself. Start with `protocol`, then read
`item_knn` as an example and `generators`, which fits them all together.

What they share: `user_profile` (the visitor's items and their weights), `similarity` (item × item), `scores` (scores
of a batch of visitors, in the form that suits the generator). May import `features` and `models.search_space`.
"""
