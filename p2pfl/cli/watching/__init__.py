"""What `p2pfl watch` is made of: reading nodes, merging what they say, drawing it."""
