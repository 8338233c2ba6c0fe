"""Why a product is recommended: evidence, reason codes, texts, and the ranker's score as a sum."""
