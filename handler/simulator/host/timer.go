package host

// State is what the host keeps in blob storage: when each timer last ran, and is to run next.
type State struct{}
