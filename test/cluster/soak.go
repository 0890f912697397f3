package cluster

import (
	"os"
	"time"
)

// soakVariable is a duration for which random tests go on: `make soak` sets it.
const soakVariable = "MORTAR_SOAK"

// soaking tells whether long tests are wanted.
func soaking() bool { return soakFor() > 0 }

func soakFor() time.Duration {
	d, _ := time.ParseDuration(os.Getenv(soakVariable))
	return d
}
