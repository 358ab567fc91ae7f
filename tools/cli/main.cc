// The program earshot: one subcommand a file, AddNAME of NAME.cc, in the order in which --help lists them.
#include "tools/cli/command.h"

int main(int argc, char** argv) {
  return earshot::RunProgram(argc, argv,
                             {
                                 earshot::AddPrepare,
                                 earshot::AddTrain,
                                 earshot::AddAlign,
                                 earshot::AddFeatures,
                             });
}
