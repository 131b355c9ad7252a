package servicenow

import "net/http"

func (i *Instance) page() http.Handler { return http.NotFoundHandler() }
