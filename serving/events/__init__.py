"""Events as storefronts and Segment send them, validated and made into rows of the event store."""
