#include <kvfold/kvfold.h>

#include <stdio.h>

int main(void) {
    printf("kvfold %s\n", kvfold_version());
    for (size_t i = 0; i < kvfold_method_count(); i++) {
        printf("%s\n", kvfold_method_name(i));
    }
    return kvfold_compact_default_params().ratio >= 1 ? 0 : 1;
}
