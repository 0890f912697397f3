package manage

import (
	"context"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// ClusterRecover implements api.Pool.
func (d *daemon) ClusterRecover(ctx context.Context) (api.Cluster, error) {
	return api.Cluster{}, refuse("Not built yet.")
}

// ClusterBackup implements api.Pool.
func (d *daemon) ClusterBackup(ctx context.Context) (api.Backup, error) {
	return api.Backup{}, refuse("Not built yet.")
}

// ClusterRestore implements api.Pool.
func (d *daemon) ClusterRestore(ctx context.Context, b api.Backup) (api.Cluster, error) {
	return api.Cluster{}, refuse("Not built yet.")
}
