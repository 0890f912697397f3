package manage

import (
	"context"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// PeerProbe implements api.Pool.
func (d *daemon) PeerProbe(ctx context.Context, r api.PeerRequest) (api.PeerReply, error) {
	return api.PeerReply{}, refuse("Not built yet.")
}

// PeerDetach implements api.Pool.
func (d *daemon) PeerDetach(ctx context.Context, r api.PeerRequest) (api.PeerReply, error) {
	return api.PeerReply{}, refuse("Not built yet.")
}

// PoolList implements api.Pool.
func (d *daemon) PoolList(ctx context.Context) ([]api.Peer, error) {
	return nil, refuse("Not built yet.")
}

// ClusterStatus implements api.Pool.
func (d *daemon) ClusterStatus(ctx context.Context) (api.Cluster, error) {
	return api.Cluster{}, refuse("Not built yet.")
}

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

// Identify implements api.Pool.
func (d *daemon) Identify(ctx context.Context, r api.IdentifyRequest) (api.Identity, error) {
	return api.Identity{}, refuse("Not built yet.")
}

// Join implements api.Pool.
func (d *daemon) Join(ctx context.Context, r api.JoinRequest) (api.Identity, error) {
	return api.Identity{}, refuse("Not built yet.")
}

// Leave implements api.Pool.
func (d *daemon) Leave(ctx context.Context, r api.LeaveRequest) (api.Identity, error) {
	return api.Identity{}, refuse("Not built yet.")
}
