package cluster

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv(countVariable) != "" {
		os.Exit(countMain())
	}
	Main(m)
}
