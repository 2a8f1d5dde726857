package etcdapi

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// The services that this version answers with Unimplemented.

type watchService struct{ pb.UnsafeWatchServer }

func (watchService) Watch(pb.Watch_WatchServer) error { return unsupported("watching keys") }

type leaseService struct{ pb.UnsafeLeaseServer }

func (leaseService) LeaseGrant(context.Context, *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return nil, unsupported("granting a lease")
}

func (leaseService) LeaseRevoke(context.Context, *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	return nil, unsupported("revoking a lease")
}

func (leaseService) LeaseKeepAlive(pb.Lease_LeaseKeepAliveServer) error {
	return unsupported("keeping a lease alive")
}

func (leaseService) LeaseTimeToLive(context.Context, *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	return nil, unsupported("a lease's time to live")
}

func (leaseService) LeaseLeases(context.Context, *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	return nil, unsupported("listing leases")
}

// authService knows that authentication is off, and nothing else.
type authService struct {
	pb.UnsafeAuthServer
	*Server
}

// authRevisionFirst is the revision of users and roles before any change.
const authRevisionFirst = 1

func (a *authService) AuthStatus(ctx context.Context, _ *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	if err := a.barrier(ctx); err != nil {
		return nil, err
	}
	return &pb.AuthStatusResponse{Header: a.header(a.store.Revision()), AuthRevision: authRevisionFirst}, nil
}

// Authenticate: clients that are given a user name call it first, and go on
// without a token when it says that authentication is off.
func (a *authService) Authenticate(context.Context, *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	return nil, rpctypes.ErrGRPCAuthNotEnabled
}

func (a *authService) AuthEnable(context.Context, *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error) {
	return nil, unsupported("enabling authentication")
}

func (a *authService) AuthDisable(context.Context, *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error) {
	return nil, unsupported("disabling authentication")
}

func (a *authService) UserAdd(context.Context, *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error) {
	return nil, unsupported("adding a user")
}

func (a *authService) UserGet(context.Context, *pb.AuthUserGetRequest) (*pb.AuthUserGetResponse, error) {
	return nil, unsupported("reading a user")
}

func (a *authService) UserList(context.Context, *pb.AuthUserListRequest) (*pb.AuthUserListResponse, error) {
	return nil, unsupported("listing users")
}

func (a *authService) UserDelete(context.Context, *pb.AuthUserDeleteRequest) (*pb.AuthUserDeleteResponse, error) {
	return nil, unsupported("deleting a user")
}

func (a *authService) UserChangePassword(context.Context, *pb.AuthUserChangePasswordRequest) (*pb.AuthUserChangePasswordResponse, error) {
	return nil, unsupported("changing a password")
}

func (a *authService) UserGrantRole(context.Context, *pb.AuthUserGrantRoleRequest) (*pb.AuthUserGrantRoleResponse, error) {
	return nil, unsupported("granting a role")
}

func (a *authService) UserRevokeRole(context.Context, *pb.AuthUserRevokeRoleRequest) (*pb.AuthUserRevokeRoleResponse, error) {
	return nil, unsupported("revoking a role")
}

func (a *authService) RoleAdd(context.Context, *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error) {
	return nil, unsupported("adding a role")
}

func (a *authService) RoleGet(context.Context, *pb.AuthRoleGetRequest) (*pb.AuthRoleGetResponse, error) {
	return nil, unsupported("reading a role")
}

func (a *authService) RoleList(context.Context, *pb.AuthRoleListRequest) (*pb.AuthRoleListResponse, error) {
	return nil, unsupported("listing roles")
}

func (a *authService) RoleDelete(context.Context, *pb.AuthRoleDeleteRequest) (*pb.AuthRoleDeleteResponse, error) {
	return nil, unsupported("deleting a role")
}

func (a *authService) RoleGrantPermission(context.Context, *pb.AuthRoleGrantPermissionRequest) (*pb.AuthRoleGrantPermissionResponse, error) {
	return nil, unsupported("granting a permission")
}

func (a *authService) RoleRevokePermission(context.Context, *pb.AuthRoleRevokePermissionRequest) (*pb.AuthRoleRevokePermissionResponse, error) {
	return nil, unsupported("revoking a permission")
}
