// The engine's own journal replayer as a program, to hold ours (domain/state/journal.ts) against. For tests only.
//
// One JSON object a line on standard input, {"base": deployment, "entries": [journal entry]}; one a line on standard output,
// {"version", "features", "deployment"} or {"error"}.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/pulumi/pulumi/pkg/v3/backend"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
)

type question struct {
	Base    apitype.DeploymentV3    `json:"base"`
	Entries []apitype.JournalEntry `json:"entries"`
}

type failure struct {
	Error string `json:"error"`
}

func main() {
	reader := bufio.NewReaderSize(os.Stdin, 1<<20)
	writer := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(writer)
	for {
		line, err := reader.ReadBytes('\n')
		if len(line) > 1 {
			if err := encoder.Encode(answer(line)); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			writer.Flush()
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func answer(line []byte) (result any) {
	// The replayer trusts its journal: what contradicts itself may make it panic.
	defer func() {
		if problem := recover(); problem != nil {
			result = failure{Error: fmt.Sprint(problem)}
		}
	}()
	var asked question
	if err := json.Unmarshal(line, &asked); err != nil {
		return failure{Error: err.Error()}
	}
	replayer := backend.NewJournalReplayer(&asked.Base)
	for _, entry := range asked.Entries {
		if err := replayer.Add(entry); err != nil {
			return failure{Error: err.Error()}
		}
	}
	deployment, err := replayer.GenerateDeployment()
	if err != nil {
		return failure{Error: err.Error()}
	}
	return deployment
}
