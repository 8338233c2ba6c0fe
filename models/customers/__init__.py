"""Customer predictions: what each customer is expected to do next, from a snapshot alone.

Open `predictions.py` first: purchase propensity, churn risk, lifetime value and next category of every customer, and
the profile made from them. `propensity.py` holds the purchase classifiers, their calibration and files.

May import `features` and `models.candidates`; bundles and explanations stand above.
"""
