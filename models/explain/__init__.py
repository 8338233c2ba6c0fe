"""Explanations: why a product is recommended, as reasons for shoppers and as parts of the score for engineers.

Open `reasons.py` first: it turns a ranking into reasons, whose codes `codes.py` lists, with the items and numbers that
`evidence.py` looks up; `texts.py` words them. `explain.py` explains a whole ranking, with the ranker's score as the sum
of contributions that `shap.py` computes.

The top of `models`: may import all other rooms there; none of them imports this one.
"""
