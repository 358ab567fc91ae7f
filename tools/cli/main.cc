// The program earshot: one subcommand a file, AddNAME of NAME.cc, in the order in which --help lists them.
#include "tools/cli/command.h"

int main(int argc, char** argv) {
  return earshot::RunProgram(argc, argv,
                             {
                                 earshot::AddTranscribe,
                                 earshot::AddMic,
                                 earshot::AddServe,
                                 earshot::AddEvaluate,
                                 earshot::AddPlot,
                                 earshot::AddInfo,
                                 earshot::AddPrepare,
                                 earshot::AddTrain,
                                 earshot::AddAverage,
                                 earshot::AddAlign,
                                 earshot::AddFeatures,
                             });
}
