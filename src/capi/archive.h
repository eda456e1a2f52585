// The archive behind the C API's handle.
#pragma once

#include "kvfold/kvfold.h"

#include "engine/kept_folds.h"

struct kvfold_archive {
    explicit kvfold_archive(size_t budget) : folds(budget) {}
    kvfold::KeptFolds folds;
};
