package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

var (
	clusterActiveDesc = desc("cluster_active", "1 when this gateway is active for the VPC, or shares it.", "vpc")
	clusterReadyDesc  = desc("cluster_ready", "1 when this gateway is READY for the VPC.", "vpc")
	clusterLossesDesc = desc("cluster_lease_losses_total", "Times that this gateway was active and could not reach a majority of the voters in time.", "vpc")
	clusterMemberDesc = desc("cluster_member_up", "1 when the other gateway of the site is heard, 0 when it is DOWN.", "member")
	clusterRemoteDesc = desc("cluster_remote_epoch", "Number of the claim of the gateway that is active at another site; 0: none is.", "cluster", "vpc")
)

var clusterDescs = []*prometheus.Desc{clusterActiveDesc, clusterReadyDesc, clusterLossesDesc, clusterMemberDesc, clusterRemoteDesc}

func (c collection) cluster(r *sluicev1.ClusterResponse, gateway string) {
	for _, v := range r.GetVpcs() {
		c.gauge(clusterActiveDesc, one(v.GetActive() == gateway), v.GetVpc())
		c.gauge(clusterReadyDesc, one(v.GetState() == stateReady), v.GetVpc())
		c.counter(clusterLossesDesc, v.GetLosses(), v.GetVpc())
	}
	for _, m := range r.GetMembers() {
		c.gauge(clusterMemberDesc, one(m.GetLive()), m.GetName())
	}
	for _, v := range r.GetRemote() {
		epoch := v.GetEpoch()
		if v.GetActive() == "" {
			epoch = 0
		}
		c.gauge(clusterRemoteDesc, float64(epoch), v.GetCluster(), v.GetVpc())
	}
}
