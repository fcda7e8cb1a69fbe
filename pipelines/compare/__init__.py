"""What another extractor makes of captured traffic, beside what was made of it before."""
