// Stands in for llama.cpp: only its name counts.
int llama_stands_here(void) { return 1; }
