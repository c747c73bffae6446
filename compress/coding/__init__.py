"""Deep compression's coding: weights shared by clusters, and files packed without loss."""
