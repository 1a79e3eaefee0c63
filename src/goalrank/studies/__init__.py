"""Studies: arena, scaling, online tests, theory."""
