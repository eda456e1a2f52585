// Loads llama.cpp through another library.
#include <stdio.h>

int server_stands_here(void);

int main(void) {
    puts("ran");
    return server_stands_here() ? 0 : 1;
}
