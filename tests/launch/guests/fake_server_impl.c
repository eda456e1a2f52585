// A library that uses llama.cpp, as the one behind llama-server does.
int llama_stands_here(void);
int server_stands_here(void) { return llama_stands_here(); }
