package manage

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// serveDebug serves metrics and profiles on a Unix socket in the state
// directory, for root only:
//
//	curl --unix-socket STATEDIR/debug.sock http://mortar/metrics
//
// The returned function ends it.
func (d *daemon) serveDebug(wg *sync.WaitGroup) (func(), error) {
	path := d.dir.join("debug.sock")
	if len(path) > 107 {
		d.log.Warn("the state directory's path is too long for debug.sock: no metrics", "path", path)
		return func() {}, nil
	}
	l, err := listenUnix(path)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.Handler())
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	wg.Go(func() { _ = s.Serve(l) }) // ends with Close
	return func() { s.Close() }, nil
}
