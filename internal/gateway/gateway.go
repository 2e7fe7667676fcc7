package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluicegw/sluice/afxdp"
	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/hosts"
	"github.com/sluicegw/sluice/internal/liveness"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/internal/pathmtu"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
	"github.com/sluicegw/sluice/xdp"
)

// retryInterval is how often what could not be done (a port that did not open, a name that did not resolve) is tried
// again when nothing else happens. Chosen: soon enough for a person who has just mended it, rare enough to cost nothing.
const retryInterval = 10 * time.Second

// Options of New.
type Options struct {
	// ConfigPath is the configuration file. Required. Reload reads it again, Apply replaces it.
	ConfigPath string
	// Socket is where the API listens instead of the configuration's api.socket; empty: as configured.
	Socket string
	// Version of the program, for Status.
	Version string
	// Logger; nil logs nothing.
	Logger *slog.Logger
}

// Gateway is one instance of Sluice. Run may be called once; Reload and the methods of api.Backend may be called from
// any goroutine while it runs.
type Gateway struct {
	options Options
	log     *slog.Logger
	started time.Time

	kernel  *neigh.Kernel
	program *xdp.Program
	device  *wireguard.Device
	relay   *relay.Relay
	learner *hosts.Learner
	alive   *liveness.Prober
	bgp     bgp
	ha      ha
	fabric  fabric // owned by Run's goroutine
	prober  *pathmtu.Prober
	umems   []*afxdp.UMEM // by worker

	// Owned by Run's goroutine.
	cfg           *config.Config
	revision      *sluicev1.ConfigRevision
	plan          *plan
	links         *neigh.Links // that plan was made for
	peers         map[string]*peer
	ports         map[string]*port
	portProblems  map[string]string
	tun           *tunPort
	nextRevision  uint64
	numbers       *routeNumbers
	forwarding    *forwarding
	held          map[floating]int // addresses that move with the active gateway, and how often they were announced
	pinned        bool             // the program can stay attached without us
	restarted     bool             // and has, after a process before us
	programBehind bool             // the program has not taken all that the plan says
	listener      *listener        // nil: could not be opened yet
	drain         drain
	joining       joining
	silent        context.CancelFunc // nil: we do not stop as soon as the drain is silent

	memory   memory
	lives    chan struct{}   // a peer has died or come back
	changed  chan struct{}   // the kernel's links or neighbours changed
	resolved chan resolution // a peer's name was looked up
	requests chan func()     // work that callers want done by Run's goroutine
	done     chan struct{}   // closed when Run's goroutine takes no more requests
	portsMu  sync.RWMutex    // held to close sockets, read-held to read their statistics
	view     atomic.Pointer[view]
	refused  atomic.Pointer[refusal]        // the last change, if it was refused
	ready    atomic.Bool                    // ports were opened for the first time
	drained  atomic.Pointer[sluicev1.Drain] // as Status shows it; nil: no drain
	stopping atomic.Bool
	listened listening
	lostSend atomic.Uint64 // datagrams of the WireGuard engine that no worker had room for
}

// New reads and checks the configuration and the key files it names. Nothing is touched yet.
func New(o Options) (*Gateway, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{
		options:    o,
		log:        o.Logger,
		peers:      make(map[string]*peer),
		numbers:    newRouteNumbers(),
		forwarding: newForwarding(),
		held:       make(map[floating]int),
		ports:      make(map[string]*port),
		changed:    make(chan struct{}, 1),
		lives:      make(chan struct{}, 1),
		resolved:   make(chan resolution),
		requests:   make(chan func()),
		done:       make(chan struct{}),
	}
	data, err := os.ReadFile(o.ConfigPath)
	if err != nil {
		return nil, err
	}
	g.cfg, err = config.Parse(data, o.ConfigPath)
	if err != nil {
		return nil, err
	}
	if g.options.Socket == "" {
		g.options.Socket = g.cfg.API.Socket
	}
	return g, g.open(data)
}

// open makes the parts, which do nothing before they run, and puts the first configuration into force.
func (g *Gateway) open(data []byte) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	secrets, err := readSecrets(g.cfg)
	if err != nil {
		return err
	}
	defer secrets.zero()
	if g.kernel, err = neigh.Watch(neigh.Options{OnChange: g.kernelChanged, Logger: g.log}); err != nil {
		return err
	}
	g.memory = memoryFor(g.cfg, g.kernel.Links())
	if err := g.dropPins(); err != nil {
		return err
	}
	if err := g.findRestart(); err != nil {
		return err
	}
	if g.program, err = xdp.Load(programOptions(g.cfg, g.memory.jumbo)); err != nil {
		return err
	}
	g.device, err = wireguard.New(wireguard.Options{PrivateKey: secrets.private, Send: g.send, Logger: g.log})
	if err != nil {
		return err
	}
	if err := g.openMemory(); err != nil {
		return err
	}
	g.newLearner()
	g.newBGP()
	g.relay, err = relay.New(relay.Options{Device: g.device, Neighbours: g.kernel, Hosts: g.learner, UMEMs: g.umems, Logger: g.log})
	if err != nil {
		return err
	}
	if err := g.newLiveness(); err != nil {
		return err
	}
	if err := g.newProber(); err != nil {
		return err
	}
	if err := g.newHA(); err != nil {
		return err
	}
	g.started = time.Now()
	g.beginJoin()
	return g.commit(g.cfg, secrets, newRevision(data, g.options.ConfigPath))
}

// openMemory makes one UMEM for each worker. Every port can have its receive and its transmit ring full at once, and
// some frames are left for packets that wait or are made here, so that no port can starve another.
func (g *Gateway) openMemory() error {
	const reserve = 1024
	frames := g.cfg.AFXDP.Frames
	if frames == 0 {
		frames = len(g.cfg.Ports)*2*g.cfg.AFXDP.RingSize + reserve
	}
	options := afxdp.UMEMOptions{
		Frames: frames, FrameSize: g.memory.frameSize, Reserve: min(reserve, frames/4), HugePages: g.cfg.AFXDP.HugePages,
	}
	for worker := range g.cfg.Workers {
		umem, err := afxdp.NewUMEM(options)
		if err != nil {
			return fmt.Errorf("packet memory of worker %d: %w", worker, err)
		}
		g.umems = append(g.umems, umem)
	}
	return nil
}

// send takes the WireGuard engine's datagrams.
func (g *Gateway) send(d wireguard.Datagram) {
	if !g.relay.Inject(d) {
		g.lostSend.Add(1)
	}
}

// kernelChanged is called by neigh: workers look at parked packets again, and the assembly at links.
func (g *Gateway) kernelChanged() {
	if g.relay != nil {
		g.relay.Wake()
	}
	select {
	case g.changed <- struct{}{}:
	default: // it will look anyway
	}
}

// Run forwards until ctx ends, then detaches from every port, stops everything and returns nil. An error of any part
// stops the others.
func (g *Gateway) Run(ctx context.Context) error {
	listener, err := api.Listen(g.options.Socket)
	if err != nil {
		close(g.done)
		return errors.Join(err, g.close())
	}
	metrics, err := listenMetrics(g.cfg.Metrics)
	if err != nil {
		close(g.done)
		return errors.Join(err, listener.Close(), g.close())
	}
	// The parts outlive ctx: ports are closed in order while workers still run.
	parts, stopParts := context.WithCancel(context.WithoutCancel(ctx))
	defer stopParts()
	group, running := errgroup.WithContext(parts)
	group.Go(func() error { return named("kernel watch", g.kernel.Run(running)) })
	group.Go(func() error { return named("wireguard", g.device.Run(running)) })
	group.Go(func() error { return named("relay", g.relay.Run(running)) })
	group.Go(func() error { return g.runLearner(running) })
	group.Go(func() error { return named("bgp", g.runBGP(running)) })
	group.Go(func() error { return named("path MTU", g.prober.Run(running)) })
	group.Go(func() error { return named("api", api.Serve(running, listener, g, g.log)) })
	group.Go(func() error { return named("liveness", g.alive.Run(running)) })
	group.Go(func() error { return named("cluster", g.runCluster(running)) })
	group.Go(func() error { return named("metrics", g.serveMetrics(running, metrics)) })

	g.expectHops()
	g.reconcile()
	g.ready.Store(true)
	if err := g.program.Prune(); err != nil {
		g.log.Warn("detach from what are no ports any more", "error", err)
	}
	g.log.Info("gateway runs", "site", g.cfg.Site, "gateway", g.cfg.Gateway, "public_key", g.device.PublicKey().String(),
		"ports", len(g.ports), "workers", len(g.umems), "socket", g.options.Socket)
	notifySystemd("READY=1")

	g.loop(ctx, running)
	g.drainToStop(running)
	g.resign()

	g.stopping.Store(true)
	notifySystemd("STOPPING=1")
	close(g.done)
	stays := g.staysAttached()
	for name, p := range g.ports {
		delete(g.ports, name)
		if stays {
			p.attachment = nil // the program goes on, without our sockets
		}
		if err := g.closePort(p); err != nil {
			g.log.Warn("close port", "port", name, "error", err)
		}
	}
	g.closeTUN()
	g.stopListening()
	stopParts()
	err = group.Wait()
	if stays {
		err = errors.Join(err, g.program.Handover())
	}
	return errors.Join(err, g.close())
}

func named(part string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", part, err)
	}
	return nil
}

// loop is the life of the assembly: every event ends in reconcile.
func (g *Gateway) loop(ctx, running context.Context) {
	retry, hops, hold := time.NewTicker(retryInterval), time.NewTicker(hopInterval), time.NewTicker(holdInterval)
	defer retry.Stop()
	defer hops.Stop()
	defer hold.Stop()
	var refresh <-chan time.Time // when changed neighbours are to be looked at
	links := g.links             // a change since the plan was made is news
	for {
		select {
		case <-ctx.Done():
			return
		case <-running.Done(): // a part failed
			return
		case <-g.changed:
			if now := g.kernel.Links(); now != links { // and not only neighbours
				links = now
				g.reconcile()
			} else if refresh == nil && g.hasHops() {
				refresh = time.After(hopPause)
			}
		case <-g.bgp.changed:
			g.routesChanged()
		case <-g.bgp.pace.later:
			g.takeRoutes()
		case <-g.lives:
			g.applyLiveness()
		case <-g.drain.ticks():
			g.keepDrain()
		case <-g.joining.ticks():
			g.keepJoining()
		case <-g.ha.changed:
			g.applyRoles()
		case <-hold.C:
			g.holdAddresses()
		case <-refresh:
			refresh = nil
			g.refreshHops()
		case <-hops.C:
			g.keepHops()
		case r := <-g.resolved:
			g.applyResolution(r)
		case work := <-g.requests:
			work()
		case <-retry.C:
			if len(g.portProblems) > 0 || g.listener == nil || g.tun.failed() || g.programBehind {
				g.reconcile()
			}
			g.resolveNames(running)
			g.followPeers()
			g.followExports()
		}
	}
}

// do runs work on Run's goroutine and waits for it.
func (g *Gateway) do(ctx context.Context, work func()) error {
	finished := make(chan struct{})
	select {
	case g.requests <- func() { defer close(finished); work() }:
		<-finished
		return nil
	case <-g.done:
		return errors.New("the gateway is stopping")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close releases what open made; ports are closed already.
func (g *Gateway) close() error {
	var errs []error
	if g.program != nil {
		errs = append(errs, g.program.Close())
	}
	if g.relay != nil {
		errs = append(errs, g.relay.Close())
	}
	for _, u := range g.umems {
		errs = append(errs, u.Close())
	}
	if g.kernel != nil {
		errs = append(errs, g.kernel.Close())
	}
	return errors.Join(errs...)
}
