"""ptychostream inside ptychodus. So far: which versions of ptychodus it is made for."""
