package etcdapi

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// clusterService is etcd's Cluster service.
type clusterService struct {
	pb.UnsafeClusterServer
	*Server
}

// MemberList returns the members, as this member knows them, or, if the request
// is linearizable, as of now.
func (c *clusterService) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	if r.Linearizable {
		if err := c.cfg.MembersBarrier(c.bounded(ctx)); err != nil {
			return nil, groupError(err)
		}
	}
	members := c.cfg.Members()
	// The store's revision is not part of this answer.
	resp := &pb.MemberListResponse{Header: c.header(0), Members: make([]*pb.Member, len(members))}
	for i := range members {
		m := &members[i]
		resp.Members[i] = &pb.Member{
			ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner}
	}
	return resp, nil
}

func (c *clusterService) MemberAdd(context.Context, *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	return nil, unsupported("adding a member")
}

func (c *clusterService) MemberRemove(context.Context, *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	return nil, unsupported("removing a member")
}

func (c *clusterService) MemberUpdate(context.Context, *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	return nil, unsupported("updating a member")
}

func (c *clusterService) MemberPromote(context.Context, *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	return nil, unsupported("promoting a member")
}
