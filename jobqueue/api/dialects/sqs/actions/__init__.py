"""The actions: a decoded input in, a result out. They do not depend on the protocol of the request."""
