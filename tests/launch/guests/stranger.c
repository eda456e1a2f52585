// Does not know llama.cpp, and says so when somebody runs it all the same.
#include <stdio.h>

int main(void) {
    puts("ran");
    return 0;
}
