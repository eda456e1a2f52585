// Stands in for libkvfold-preload.so.
int preload_stands_here(void) { return 1; }
