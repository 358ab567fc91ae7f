// One line for each corpus: its preparer lives in prepare_NAME.cc.
#pragma once

#include "src/data/prepare.h"

namespace earshot {

CorpusPreparer An4Preparer();
CorpusPreparer FsddPreparer();
CorpusPreparer YesnoPreparer();

}  // namespace earshot
